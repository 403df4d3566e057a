"""From predictions to numbers: metrics, intervals, rows of a table, localization; reads no run folder."""
