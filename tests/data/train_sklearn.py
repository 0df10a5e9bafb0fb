"""Train a classifier of two classes, and print its rows, labels and probabilities as JSON.

python train_sklearn.py FILE PROTOCOL
"""

import json
import pickle
import sys

import joblib
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

path, protocol = sys.argv[1], int(sys.argv[2])
rows, classes = make_classification(200, 4, random_state=1)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, classes)
if path.endswith(".pkl"):
    with open(path, "wb") as file:
        pickle.dump(model, file, protocol)
else:
    joblib.dump(model, path, protocol=protocol, compress=3 if path.endswith(".z.joblib") else 0)
rows = rows[:8]
print(
    json.dumps(
        {
            "rows": rows.tolist(),
            "labels": model.predict(rows).tolist(),
            "probabilities": model.predict_proba(rows).tolist(),
        }
    )
)
