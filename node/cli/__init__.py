"""The command line of a node: `warren-node`.

Commands import what they need when they run, so that help and mistakes show at once.
"""

from common.cli import new_app
from common.security.cli import enrol_command
from node.cli import agent, audit, dataset, doctor, gui, loading, plan, policy, task
from node.cli.fetch import fetch

app = new_app("Keep data at home and train where it lies.")
agent.register(app)
app.command("enroll")(enrol_command("node", agent.install))
doctor.register(app)
gui.register(app)
dataset.app.command()(fetch)
app.add_typer(dataset.app, name="dataset")
app.add_typer(loading.app, name="loading")
app.add_typer(plan.app, name="plan")
app.add_typer(task.app, name="task")
app.add_typer(policy.app, name="policy")
app.add_typer(audit.app, name="audit")
