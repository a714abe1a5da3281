"""The trainers of `training.qlora`: SFT, DPO and KTO on TRL, what they share, and the adapters they train.

Only the trainer child imports these: they load torch.
"""
