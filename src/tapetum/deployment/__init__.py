"""A trained classifier handed to others: served over HTTP."""
