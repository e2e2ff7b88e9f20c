"""Figures, tables and sentences, a module for each step, and the page that holds them."""
