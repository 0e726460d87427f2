"""What engines were seen to do beside the wheel, by model and by set of flags."""
