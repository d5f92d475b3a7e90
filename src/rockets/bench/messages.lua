-- What wrk sends for `rockets bench`, and how it tells what came of it.
--
-- wrk ... --script messages.lua URL -- KIND keep-alive|close LAUNCHED INCREASED CHANNEL...
--
-- KIND names one of the senders below.
-- LAUNCHED and INCREASED are bodies in which channel, number and time are filled in.
-- For "scattered" four figures follow instead of channels: how many rockets there are, how far
-- apart two are that follow each other, how many messages each has, and how many of the march
-- have been sent.
-- It works with one thread only: a script's variables exist once in each thread.

local channels = {}
local launched, increased, connection
local send

-- Global, because only those can be asked for when wrk is done.
posts = 0
gets = 0

local function post(body)
  posts = posts + 1
  return "POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    .. connection .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

local function get(target)
  gets = gets + 1
  return "GET " .. target .. " HTTP/1.1\r\nHost: localhost\r\n" .. connection .. "\r\n"
end

local function time(index)
  return string.format(
    "2022-02-02T19:39:%02d.%05d+01:00", math.floor(index / 100000) % 60, index % 100000)
end

-- A channel like any UUID: in no order, as the channels of real rockets are.
local function new_channel()
  return string.format(
    "%04x%04x-%04x-4%03x-8%03x-%06x%06x",
    math.random(0, 65535), math.random(0, 65535), math.random(0, 65535), math.random(0, 4095),
    math.random(0, 4095), math.random(0, 16777215), math.random(0, 16777215))
end

-- The same messages as rockets.bench.bodies.messages.
local function next_message()
  local index = posts
  local number = math.floor(index / #channels)
  local template = number == 0 and launched or increased
  return post(string.format(template, channels[index % #channels + 1], number + 1, time(index)))
end

-- The same messages as rockets.bench.scale_march.March.
local function next_scattered()
  local rockets, stride = tonumber(channels[1]), tonumber(channels[2])
  local index = tonumber(channels[4]) + posts
  local rocket = index % rockets * stride % rockets
  local number = tonumber(channels[3]) + 1 + math.floor(index / rockets)
  local channel = string.format(
    "%08x-5ca1-4e00-8000-%012x", rocket * 2654435761 % 4294967296, rocket)
  local template = number == 1 and launched or increased
  return post(string.format(
    template, channel, number, math.floor(number / 100000) % 60, number % 100000, rocket))
end

local senders = {
  distinct = next_message,
  scattered = next_scattered,
  same = function() return post(string.format(launched, channels[1], 1, time(0))) end,
  new = function() return post(string.format(launched, new_channel(), 1, time(posts))) end,
  -- The GET is one that only the application behind the fast lane can answer.
  mixed = function()
    if (posts + gets) % 10 == 9 then
      return get("/rockets?status=launched")
    end
    return next_message()
  end,
  one = function() return get("/rockets/" .. channels[gets % #channels + 1]) end,
  list = function() return get("/rockets") end,
}

function init(args)
  send = senders[args[1]]
  connection = args[2] == "close" and "Connection: close\r\n" or ""
  launched, increased = args[3], args[4]
  for index = 5, #args do
    channels[#channels + 1] = args[index]
  end
  math.randomseed(444)
end

-- wrk asks once without sending, to see how many requests a text holds.
local asked = false

function request()
  if asked then
    return send()
  end
  asked = true
  return "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
end

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"durationUs":%d,"p50Us":%d,"p99Us":%d,"posts":%d,"gets":%d,"errors":'
      .. '{"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    threads[1]:get("posts"), threads[1]:get("gets"),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
