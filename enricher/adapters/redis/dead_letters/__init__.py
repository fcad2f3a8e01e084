"""Dead letters in Redis: stores, the way back by a stream or by the running worker."""
