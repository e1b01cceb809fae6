"""Files of pictures and texts as people have them: what is read of them, and what is wrong with them."""
