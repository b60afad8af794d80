"""Updates of the vector and weight of an index at once, and predictions by draws of them."""
