"""The documentation as a site: what it is made from, and its pages that are made from the code."""
