"""What the user wants, in neutral terms: frozen dataclasses without a vendor's word in them."""
