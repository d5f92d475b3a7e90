"""Who is responsible: the only mutable state about rockets.

`rocket_actor` is one rocket's loop, `fleet` finds, starts, supervises and passivates the actors,
`run_budget` counts the open runs of all rockets, `read_model` is what readers see.
"""
