"""Several whole processes on one port that are one service: what they tell each other, and who watches them."""
