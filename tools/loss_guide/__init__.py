"""What tools/losses_page.py makes docs/losses.md of: pictures, and answers of other implementations."""
