"""A package within the package: its classes are found too."""
