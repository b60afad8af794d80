"""Lines of libsvm and libffm files as numbers, and back."""
