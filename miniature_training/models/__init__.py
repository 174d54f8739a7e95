"""How a miniature is stored, trained and grown."""
