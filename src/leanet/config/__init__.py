"""Every option of leanet, and how options are read and written; imports no torch."""
