"""What networks are asked to do, in each backend: to name pictures, or to find objects in them."""
