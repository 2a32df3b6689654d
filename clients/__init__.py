"""What a phone does: local training and evaluation, behind one Flower ClientApp."""
