"""From results to the cohort: tables, counts, suspicion, the contact sheet and what reviewers decided."""
