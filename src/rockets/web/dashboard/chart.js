// Speed over message number, drawn by uPlot; loaded by the page of a rocket alone.

import uPlot from "./uPlot.esm.js";

const HEIGHT_PX = 260;
const MARKED = { RocketMissionChanged: "mission", RocketExploded: "explosion" };

export class SpeedChart {
  #box;
  #plot = null;
  #marks = [];
  #at = null;
  #sized = new ResizeObserver(() => this.#plot?.setSize({ width: this.#box.clientWidth, height: HEIGHT_PX }));
  #dark = matchMedia("(prefers-color-scheme: dark)");
  #redraw = () => this.#make(this.#plot?.data);

  constructor(box) {
    this.#box = box;
    this.#sized.observe(box);
    this.#dark.addEventListener("change", this.#redraw);
  }

  /** Show messages as `GET /rockets/{channel}/messages?state=speed` gives them. */
  show(messages) {
    this.#marks = messages
      .filter(({ type }) => type in MARKED)
      .map((message) => ({ number: message.number, kind: MARKED[message.type], text: markText(message) }));
    const data = [messages.map(({ number }) => number), messages.map(({ speed }) => speed)];
    if (this.#plot === null) this.#make(data);
    else this.#plot.setData(data);
  }

  /** Mark a message number, none with null. */
  mark(number) {
    this.#at = number;
    this.#plot?.redraw(false);
  }

  remove() {
    this.#sized.disconnect();
    this.#dark.removeEventListener("change", this.#redraw);
    this.#plot?.destroy();
  }

  #make(data) {
    if (!data) return;
    this.#plot?.destroy();
    const style = getComputedStyle(this.#box);
    const color = (name) => style.getPropertyValue(name).trim();
    const thin = { stroke: color("--line"), width: 1 };
    const axis = { stroke: color("--muted"), grid: thin, ticks: thin };
    const options = {
      width: this.#box.clientWidth,
      height: HEIGHT_PX,
      scales: { x: { time: false } },
      axes: [axis, { ...axis, size: 70 }],
      series: [
        { label: "Message" },
        { label: "Speed", stroke: color("--accent"), width: 2, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } },
      ],
      hooks: { draw: [(plot) => this.#drawMarks(plot, color)] },
    };
    this.#plot = new uPlot(options, data, this.#box);
  }

  #drawMarks(plot, color) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.textAlign = "left";
    ctx.lineWidth = devicePixelRatio;
    ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    let free = -Infinity; // texts must not lie upon each other
    const lines = [...this.#marks];
    if (this.#at !== null) lines.push({ number: this.#at, kind: "at", text: "" });
    for (const { number, kind, text } of lines) {
      const x = plot.valToPos(number, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = ctx.fillStyle = color(`--${kind}`);
      ctx.setLineDash(kind === "at" ? [] : [4, 4]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(text).width;
      const left = Math.min(x + 4, bbox.left + bbox.width - width);
      if (left < free) continue;
      ctx.fillText(text, left, bbox.top + 14 * devicePixelRatio);
      free = left + width + 8;
    }
    ctx.restore();
  }
}

function markText({ type, payload }) {
  if (type === "RocketExploded") return `exploded: ${payload?.reason ?? ""}`;
  return payload?.newMission ?? "";
}
