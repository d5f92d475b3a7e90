"""Who is responsible: the only mutable state about rockets.

- `part`: what an actor is asked, and its answer.
- `rocket_actor`: one rocket's loop.
- `squad`: the loop of many rockets of a batch; `squads` starts and supervises them.
- `turn`: what both do for one rocket before and after a commit.
- `fleet`: finds, starts, supervises and passivates the actors.
- `part`: what is handed to an actor and answered as one.
- `followed`: what other instances stored, on its way into a ledger.
- `applied`, `replica`: how far an instance has come among others, and how it follows them.
- `checkpoints`, `recovery`, `round_claim`: ledgers kept in the journal, and taken from there.
- `run_budget`: counts the runs behind a gap of all rockets.
- `read_model`: what readers see.
- `changes`: which rockets have changed lately.
- `listing`: lists of rockets, filtered, sorted and paged.
- `rocket_lists`: answers them, however many rockets there are.
- `rocket_table`, `table_query`: what long lists are read from, and how.
- `fleet_summary`: the whole fleet in numbers.
- `history`: the stored messages of one rocket, and the rocket as it was.
- `anomalies`: messages that changed nothing, and conflicts.
- `anomaly_index`: finds the first of these in the journal.
- `rejections`: keeps refused bodies and gives them back.
"""
