"""What a study's directory holds beside its runs."""

STUDY, PLAN, FINDINGS, RUNS, PAGE = "study.yaml", "plan.json", "study.json", "runs", "report.html"
