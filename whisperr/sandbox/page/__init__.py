"""The page in the browser: its static files, and the queries and the stream behind them."""
