"""Upper bounds on the optimum, from measured gains."""
