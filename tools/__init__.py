"""What makes and checks the documentation and the package; nothing here is part of either."""
