"""Makes the monthly compliance report: recordings listed, archived and missed, checks made, and the proof of each
figure.

`facts` and `month` are pure, `gather` reads the facts from the database, `page`, `paper` and `document` show the same
facts.
"""
