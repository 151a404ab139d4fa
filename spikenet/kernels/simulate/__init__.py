"""The time loop of recurrent, sparse networks with delays: a plan in plain arrays, and the engines that run it."""
