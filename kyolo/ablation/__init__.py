"""Ablation studies: trainings paired by seed, and the statistics that tell a real difference from noise."""

from kyolo.ablation.estimate import run_seconds as run_seconds
from kyolo.ablation.folder import open_study as open_study
from kyolo.ablation.jobs import split_cores as split_cores
from kyolo.ablation.jobs import train_runs as train_runs
from kyolo.ablation.plan import Plan as Plan
from kyolo.ablation.plan import load_plan as load_plan
from kyolo.ablation.report import write_report as write_report
from kyolo.ablation.runs import StudyRun as StudyRun
from kyolo.ablation.runs import find_problems as find_problems
from kyolo.ablation.runs import list_runs as list_runs
from kyolo.ablation.statistics import Comparison as Comparison
from kyolo.ablation.statistics import compare as compare
from kyolo.ablation.statistics import detectable_effect as detectable_effect
from kyolo.ablation.statistics import least_pairs as least_pairs
from kyolo.ablation.study import summarize as summarize

__all__ = [
    "Comparison",
    "Plan",
    "StudyRun",
    "compare",
    "detectable_effect",
    "find_problems",
    "least_pairs",
    "list_runs",
    "load_plan",
    "open_study",
    "run_seconds",
    "split_cores",
    "summarize",
    "train_runs",
    "write_report",
]
