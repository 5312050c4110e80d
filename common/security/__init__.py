"""Say who a party is, whom it believes, and seal what it sends."""
