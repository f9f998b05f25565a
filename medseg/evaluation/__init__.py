"""How well a prediction agrees with a reference, with every undefined case named."""
