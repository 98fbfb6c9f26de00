"""New images, old classes: a model's boxes beside a person's labels, and corrections."""
