"""What the node shows of itself: logs, metrics, health, and whether its threads live.

logs.py         one line an event, as text or as JSON, with nothing of a patient
metrics.py      counters, gauges and histograms, as Prometheus reads them
health.py       whether the node does its work
http.py         the server of both pages
life.py         whether a thread makes progress
supervisor.py   watches all threads
systemd.py      what systemd wants to be told
"""
