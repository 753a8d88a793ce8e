"""A result as one self-contained HTML file, drawn with Bokeh."""
