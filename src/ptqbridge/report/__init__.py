"""What users read: text, JSON and Markdown made from plans and results."""
