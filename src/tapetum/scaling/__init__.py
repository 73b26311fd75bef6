"""Many trainings on the same pictures: a search for settings, and a curve of the error by the number of pictures."""
