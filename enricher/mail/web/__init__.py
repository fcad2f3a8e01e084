"""The screens of mails: what was read, and what is wrong with it."""
