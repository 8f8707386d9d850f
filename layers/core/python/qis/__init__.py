"""QIS Data Management: many claims about one series and moment in, one official value out, and why."""
