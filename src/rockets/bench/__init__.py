"""The benchmark: what the service does per second, beside what this machine could do at most.

- `outcome`: what one measurement found, percentiles and medians.
- `bodies`: the messages that are sent; `messages.lua` sends the same ones from wrk.
- `wrk`: closed-loop load; `open_loop`: load on a schedule; `batches`: load in batches.
- `floor`, `no_op`, `commits`, `inserts`: the references, each a process of its own.
- `processes`: starts and ends everything; `stand`: where a measurement happens.
- `measurements`, `cases`: the two tables, what is measured and what it must reach.
- `shared`, `stores`: what processes share, and the servers they share it on.
- `rounds`: runs them; `verdict`: compares; `report`: tells; `page`: writes it into the docs.
- `machine`: on what it ran.

One instance with a million rockets (`rockets bench-scale`) has modules of its own:

- `scale_march`: the messages of a large fleet; `scale_sender` sends them, in batches or singly.
- `scale_stand`: servers on databases that stay; `scale_shelf`: loaded databases.
- `scale_rates`, `scale_bounds`: the cases; `scale_hot`: the load of one of them, a process.
- `scale_cases`: the table; `scale_found`: compares; `scale_report`: tells.

Figures of different machines say little; ratios to a reference of the same run say much.
"""
