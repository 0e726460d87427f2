"""Language models in llama.cpp's server: that of the wheel, and executables that were built."""
