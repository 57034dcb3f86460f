"""Judging scores against labels: incidents and metrics. Causal, point-wise, never point-adjusted."""
