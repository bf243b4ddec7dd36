"""Where each dataset comes from."""
