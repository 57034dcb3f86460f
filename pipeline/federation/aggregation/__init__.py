"""How the sites' updates become one: mean, clipped, robust, private, compressed; TFF aggregation factories."""
