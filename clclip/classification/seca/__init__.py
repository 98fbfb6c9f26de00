"""SECA: adapters, prompts, SG-AKT, SE-VPR, replay."""
