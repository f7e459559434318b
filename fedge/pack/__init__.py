"""The auditor pack: a report in every form, signed, with the log that it can be checked against."""
