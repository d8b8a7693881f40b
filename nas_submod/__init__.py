"""Neural architecture search as the maximisation of a set function under knapsack budgets."""
