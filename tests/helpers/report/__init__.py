"""Results as the report reads them, and a browser that opens the page."""
