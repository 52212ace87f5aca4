"""Access to the page: doors that admit visitors, their roles, tokens of forms, headers and limits."""
