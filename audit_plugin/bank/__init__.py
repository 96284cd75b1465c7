"""The probe bank: plan, build, verify, score."""
