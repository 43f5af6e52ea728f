"""What every group stands on: settings, studies as files, interleaved runs, agreement of answers, rows of results."""
