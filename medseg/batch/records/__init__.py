"""What is known of a batch and its cases, and the files that keep it: plan, results, index, events, environment."""
