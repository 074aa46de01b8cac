"""Second generator of Walkers: recorded people's strides, garments, activities, all directions."""
