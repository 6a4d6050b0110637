"""The monthly compliance report: what was listed, archived, missed and checked, and what each figure rests on.

`facts` and `month` are pure, `gather` reads them from the database, `page`, `paper` and `document` show the same facts.
"""
